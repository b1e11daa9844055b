"use strict";
/* Fill the page. */

showQuality();
startPipeline();
startTimeline();
showRoofline();
showDecompositions();
showConfiguration();
showHead();
